package yaml_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	library "go.yaml.in/yaml/v4"

	"b9.build/b9/engine/content/internal/oracle"
	"b9.build/b9/engine/content/yaml"
)

// coarse renders what both readers can tell of a value: its kind, and the text
// of scalars other than dates, with the keys of mappings in order.
func coarse(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return fmt.Sprint(v)
	case time.Time, yaml.Time:
		return "date"
	case float64:
		return fmt.Sprintf("f%016x", math.Float64bits(v))
	case string:
		return fmt.Sprintf("%q", v)
	case yaml.Bytes:
		return fmt.Sprintf("%q", string(v))
	case []any:
		var all []string
		for _, item := range v {
			all = append(all, coarse(item))
		}
		return "[" + strings.Join(all, ",") + "]"
	case map[string]any:
		return coarseMap(v)
	case map[any]any:
		return coarseMap(v)
	}
	return fmt.Sprintf("i%v", v)
}

func coarseMap[K comparable](m map[K]any) string {
	var all []string
	for k, v := range m {
		all = append(all, coarse(any(k))+":"+coarse(v))
	}
	slices.Sort(all)
	return "{" + strings.Join(all, ",") + "}"
}

// plainValue is a node's value in Go's own types.
func plainValue(n *yaml.Node) any {
	switch v := n.Value.(type) {
	case []*yaml.Node:
		list := []any{}
		for _, item := range v {
			list = append(list, plainValue(item))
		}
		return list
	case yaml.Fields:
		m := map[any]any{}
		for _, f := range v {
			m[f.Key.Value] = plainValue(f.Value)
		}
		return m
	}
	return n.Value
}

// TestWhyNotTheLibrary holds the reason for a reader of our own: on documents
// that b9 and PyYAML agree about, the library reads many otherwise, or refuses
// them, or takes what cloud-init can't read.
func TestWhyNotTheLibrary(t *testing.T) {
	docs := oracle.Documents()
	oracle.SameAsPyYAML(t, docs)
	refused, taken, other := 0, 0, 0
	for _, doc := range docs {
		ours, err := yaml.Parse("f", doc)
		var v any
		theirs := library.Unmarshal([]byte(doc), &v)
		switch {
		case err == nil && theirs != nil:
			refused++
		case err != nil && theirs == nil:
			taken++
		case err == nil && coarse(plainValue(ours.Root)) != coarse(v):
			other++
		}
	}
	t.Logf("of %d documents the library refuses %d that PyYAML reads, takes %d that it refuses, and reads %d otherwise", len(docs), refused, taken, other)
	if refused+taken+other < len(docs)/20 {
		t.Error("the library reads nearly all as PyYAML does: docs/decisions/0001-yaml-reader.md no longer holds")
	}
}
