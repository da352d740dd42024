"""GLM-V visual tokens from a glm4v-embed service. `from glm4v_client import EmbeddingClient`."""
