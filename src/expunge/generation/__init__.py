"""Sample images from diffusion models, load text-to-image pipelines, and erase concepts from them."""
