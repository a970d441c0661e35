//go:build !race

package disk

const raced = 1
