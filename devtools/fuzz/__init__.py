"""`dev.py fuzz`: wrong, odd and random input for every node, through a real server."""
