"""The pictures of settings in the help pages."""
