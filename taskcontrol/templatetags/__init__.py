"""What the templates of the screens ask for."""
