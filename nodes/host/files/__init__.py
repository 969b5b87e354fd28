"""Files that the nodes read and write."""
