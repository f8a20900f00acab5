"""What a run may vary: `schema` (types and ranges), `compose` (Hydra -> frozen values), `seeds`, `identity`."""
