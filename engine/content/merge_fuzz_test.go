package content

import (
	"testing"

	"b9.build/b9/engine/content/internal/mutate"
	"b9.build/b9/engine/content/yaml"
)

// targets are the parsers of this package.
func targets() []mutate.Target {
	return []mutate.Target{
		{
			Name:   "merge_how",
			Seeds:  []string{"list(append)+dict(recurse_list)+str()", "dict(replace)+list()", "m_list(no-replace, append)", "strict"},
			Tokens: "( ) + , list dict str append replace _ -",
			Holds:  holdsMergeHow(),
		},
	}
}

func FuzzMergeHow(f *testing.F) { mutate.Fuzz(f, targets(), "merge_how") }

func TestMutations(t *testing.T) { mutate.Run(t, targets()) }

// holdsMergeHow: what is accepted can merge.
func holdsMergeHow() func(t testing.TB, text string) bool {
	var pairs [][]*yaml.Node
	for _, in := range [][2]string{{"a: [1, {b: x}]\n", "a: [2, {b: y}]\nc: z\n"}, {"a: x\n", "a: [y]\n"}} {
		a, _ := yaml.Parse("a", in[0])
		b, _ := yaml.Parse("b", in[1])
		pairs = append(pairs, []*yaml.Node{a.Root, b.Root})
	}
	return func(t testing.TB, text string) bool {
		if CheckStrategy(text) != nil {
			return false
		}
		for _, docs := range pairs {
			if _, err := Merge(text, docs); err != nil && err.Error() == "" {
				t.Fatalf("%q: an error that says nothing", text)
			}
		}
		return true
	}
}
