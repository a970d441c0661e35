package ext4

import "b9.build/b9/engine/tool"

// Tool is a program of the host whose version belongs in the key of a step that
// calls it. resize2fs prints its version and exits with 1.
type Tool = tool.Program

// Tools lists the programs behind Make, Resize and Shrink.
func Tools() []Tool {
	return []Tool{
		{Name: "mke2fs", VersionArgs: []string{"-V"}},
		{Name: "resize2fs", VersionArgs: []string{"-h"}},
		{Name: "e2fsck", VersionArgs: []string{"-V"}},
	}
}
