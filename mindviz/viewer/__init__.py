"""The cortex viewer's data: geometry, payloads, page. It knows nothing of gradio."""
