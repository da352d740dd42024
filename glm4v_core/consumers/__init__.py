"""Stored tokens in the forms that language models and their servers take them in."""
