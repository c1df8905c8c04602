"""Vocabularies: text as token ids."""
