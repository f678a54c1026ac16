"""Speed and memory compared with other libraries: `python -m validation.bench NAME`, one file for each benchmark."""
