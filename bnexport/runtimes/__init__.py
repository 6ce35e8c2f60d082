"""The outside frameworks, one late door each: the file name says which framework may enter, and only inside functions."""
