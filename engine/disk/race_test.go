//go:build race

package disk

// raced divides the sizes of the tests that compress much: with the race
// detector that is twenty times slower, and what races with what is the same.
const raced = 4
