"""The words of shell text, of commands and of secrets in them."""
