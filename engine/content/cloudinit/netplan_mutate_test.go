package cloudinit

import (
	"encoding/json"
	"slices"
)

// place is a value in a document: the entry or element that holds it.
type place struct {
	key string // of the mapping that it is in, "" in a list
	get func() any
	set func(any)
	del func()
	ren func(string)
}

// copied is a copy of a document that can be changed on its own.
func copied(v any) any {
	switch v := v.(type) {
	case mapping:
		var o mapping
		for _, e := range v {
			o = append(o, entry{e.key, copied(e.value)})
		}
		return o
	case []any:
		list := []any{}
		for _, e := range v {
			list = append(list, copied(e))
		}
		return list
	}
	return v
}

// places lists all values below one; set puts a changed copy in its place.
func places(v any, set func(any), found *[]place) {
	switch v := v.(type) {
	case mapping:
		for i := range v {
			*found = append(*found, place{
				key: v[i].key,
				get: func() any { return v[i].value },
				set: func(n any) { v[i].value = n },
				del: func() { set(slices.Delete(slices.Clone(v), i, i+1)) },
				ren: func(key string) { v[i].key = key },
			})
			places(v[i].value, func(n any) { v[i].value = n }, found)
		}
	case []any:
		for i := range v {
			*found = append(*found, place{
				get: func() any { return v[i] },
				set: func(n any) { v[i] = n },
				del: func() { set(slices.Delete(slices.Clone(v), i, i+1)) },
				ren: func(string) {},
			})
			places(v[i], func(n any) { v[i] = n }, found)
		}
	}
}

// mutated changes one thing in a document.
func (p *planner) mutated(doc mapping) mapping {
	whole := copied(doc)
	var all []place
	places(whole, func(n any) { whole = n }, &all)
	at := all[p.IntN(len(all))]
	for at.key == "version" {
		at = all[p.IntN(len(all))]
	}
	switch p.IntN(5) {
	case 0:
		at.del()
	case 1:
		at.ren(pick(p, at.key+"s", "no-such-key", at.key[:max(0, len(at.key)-1)], "a b"))
	case 2: // a value from elsewhere in the document, of the same key if there is one
		other := all[p.IntN(len(all))]
		for _, o := range all {
			if o.key == at.key && p.IntN(2) == 0 {
				other = o
			}
		}
		at.set(copied(other.get()))
	default:
		at.set(p.wrong(at.get()))
	}
	return whole.(mapping)
}

// wrong makes another value than the one that was there.
func (p *planner) wrong(old any) any {
	words := []any{"nowhere", "", "a b", -1, 4294967296, 99999, 300, 1.5, "192.0.2.1", "2001:db8::1", "192.0.2.1/33", "10.0.0.0/8", "52:54", "on", "NetworkManager", "ap", []any{}, []any{"x"}, mapping{}, mapping{{"x", 1}}}
	n := words[p.IntN(len(words))]
	same, _ := json.Marshal(old)
	if again, _ := json.Marshal(n); string(again) == string(same) {
		return "other"
	}
	return n
}
