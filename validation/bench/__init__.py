"""Speed and memory beside other libraries: `python -m validation.bench NAME`, one file for each benchmark."""
