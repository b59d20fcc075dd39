"""YAML in, positions kept, pydantic's complaints in plain words out."""
