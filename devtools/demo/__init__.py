"""The workflow files on the portraits domain, judged; training it."""
