//go:build race

package repo

// raceFactor is how much more memory a program may take with the race detector,
// which keeps up to ten times what the program has.
const raceFactor = 4
