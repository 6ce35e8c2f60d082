"""BatchNormalization and affine operators folded into their neighbours."""
