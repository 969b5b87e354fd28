"""The workflow files on a checkpoint of one's own."""
