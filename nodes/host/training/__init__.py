"""What training needs of the host: its weights as autograd takes them."""
