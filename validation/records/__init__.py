"""Records: on which code each one depends, runs that are not finished, and what calls and textbooks cost."""
