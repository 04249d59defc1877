"""Names that programs take from `ray.serve._private`, where they have a meaning here."""
