"""Where a reference comes from: Keras, Keras 2 and SavedModels, each imported inside functions only."""
