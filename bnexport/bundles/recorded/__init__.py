"""What another program computed for a bundle, read from the files that it wrote: `bnexport verify BUNDLE --recorded DIR`."""
