"""Providers of models, by way of pydantic-ai: what only those import who ask a real model."""
