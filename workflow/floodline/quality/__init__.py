"""Quality control of the image: damaged sections, brightness and contrast along the volume."""
