package config

import "b9.build/b9/engine/size"

// Size is a number of bytes, and Duration a length of time, with the texts
// that [size.Parse] and [size.ParseDuration] read.
type (
	Size     = size.Bytes
	Duration = size.Duration
)
