"""A fair verdict on anybody's detector of adversarial images."""
