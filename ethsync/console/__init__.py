"""An interactive RLPx console: any message can be sent, every frame is shown decoded."""
