package content

import (
	"fmt"
	"strings"
	"testing"

	"b9.build/b9/engine/content/cloudinit"
	"b9.build/b9/engine/content/yaml"
)

// configOf4K is a cloud-config of about 4 KB.
func configOf4K(i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "#cloud-config\n# file %d\npackages:\n", i)
	for k := range 20 {
		fmt.Fprintf(&b, "  - package-%d-%d\n", i, k)
	}
	b.WriteString("write_files:\n")
	for k := range 12 {
		fmt.Fprintf(&b, "  - path: /etc/conf-%d-%d\n    permissions: \"0644\"\n    owner: root:root\n    content: |\n", i, k)
		for line := range 5 {
			fmt.Fprintf(&b, "      setting_%d = value of some length %d\n", line, i)
		}
	}
	b.WriteString("runcmd:\n")
	for k := range 10 {
		fmt.Fprintf(&b, "  - [systemctl, enable, --now, \"unit-%d-%d\"]\n", i, k)
	}
	return b.String()
}

// BenchmarkMerge reads, merges and checks 1,000 cloud-configs of 4 KB.
func BenchmarkMerge(b *testing.B) {
	files := make([]string, 1000)
	size := 0
	for i := range files {
		files[i] = configOf4K(i)
		size += len(files[i])
	}
	b.SetBytes(int64(size))
	for b.Loop() {
		docs := make([]*yaml.Node, len(files))
		for i, text := range files {
			d, err := yaml.Parse("f", text)
			if err != nil {
				b.Fatal(err)
			}
			docs[i] = d.Root
		}
		n, err := Merge("strict", docs)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := yaml.Split(cloudinit.CheckConfig(n, nil)); err != nil {
			b.Fatal(err)
		}
	}
}
