package builtins

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
)

// followsRole begins the roles of what is followed. What a user names there are
// steps; what the step has as inputs in the end are the states of the worlds that
// those were made from.
const followsRole = "follows "

// follow replaces the steps that are followed by the states of what they were
// made from, each once.
func follow(k *lang.Linked) error {
	var named []engine.Input
	k.Inputs = slices.DeleteFunc(k.Inputs, func(in engine.Input) bool {
		ours := strings.HasPrefix(in.Role, followsRole)
		if ours {
			named = append(named, in)
		}
		return ours
	})
	var states []engine.Moving
	for _, in := range named {
		found := false
		for _, n := range engine.Reachable(in.Ref) {
			f, ok := n.Action().(engine.Followed)
			if !ok {
				continue
			}
			found = true
			state := f.Follows()
			if state != nil && !slices.ContainsFunc(states, func(s engine.Moving) bool { return reflect.DeepEqual(s, state) }) {
				states = append(states, state)
			}
		}
		if !found {
			return fmt.Errorf("follows: %s comes from no bootstrap(), so nothing moves that could be followed: leave it out", in.Ref)
		}
	}
	for i, state := range states {
		n, err := k.Between("archive", state, nil, lang.OneFile("txt"))
		if err != nil {
			return err
		}
		k.Inputs = append(k.Inputs, engine.Input{Role: fmt.Sprint(followsRole, i), Ref: n.Ref("")})
	}
	return nil
}
