"""How another program prepared pictures, found out from the inputs that it recorded, or from its outputs."""
