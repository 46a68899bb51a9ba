"""From nothing to assets/demo: the simulated world, the small models, the recipe that trains them."""
