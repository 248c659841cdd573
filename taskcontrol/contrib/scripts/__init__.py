"""Scripts: small programs that people write in admin, run as tasks in a restricted Python."""
