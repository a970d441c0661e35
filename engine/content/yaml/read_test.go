package yaml_test

import (
	"testing"

	"b9.build/b9/engine/content/internal/oracle"
)

func TestReadsAsPyYAML(t *testing.T) {
	oracle.SameAsPyYAML(t, append(oracle.Documents(), oracle.MutatedYAML(targets()[0], 1000)...))
}
