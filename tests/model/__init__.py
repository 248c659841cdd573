"""The protocol of one task as a small model, looked at in every order of its steps."""
