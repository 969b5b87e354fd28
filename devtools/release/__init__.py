"""What is made or checked for a release: package, locales, compatibility."""
