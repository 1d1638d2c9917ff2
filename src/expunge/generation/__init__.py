"""Generators: drawing from diffusion models, text-to-image pipelines, and erasing a concept from them."""
