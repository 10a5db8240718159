"""Pages that show figures: one file each, opened from the disk, without network or scripts."""
