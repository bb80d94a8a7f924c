"""How does a radiologist use it?"""
