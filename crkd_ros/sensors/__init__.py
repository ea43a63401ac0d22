"""One object per camera and radar: topic, model, decoding, health, history; live and in replay."""
