"""Camera branch: images to feature maps, feature maps to the bird's-eye view."""
