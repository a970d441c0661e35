package content

import "testing"

func TestReadsAsPyYAML(t *testing.T) {
	SameAsPyYAML(t, append(yamlDocuments(), MutatedYAML(yamlTargets()[0], 1000)...))
}
