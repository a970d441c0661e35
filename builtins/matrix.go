package builtins

import (
	"fmt"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine/content/template"
)

// maxMatrix bounds how many combinations one call may make.
const maxMatrix = 100_000

func matrixOperation() lang.Operation {
	return lang.Operation{
		Name: "matrix",
		Doc: `a list of structs, one for each combination of values, to make many targets from one rule

product combines every value of each list with every value of the others, the last
one changing fastest. zip takes the first value of each list, then the second, and so on: the
lists must be equally long. With both, every combination of product meets every row of zip.`,
		Params: []lang.Param{
			{Name: "product", Type: lang.DictOf(lang.Value), Doc: "lists of values by name, of which all combinations are made"},
			{Name: "zip", Type: lang.DictOf(lang.Value), Doc: "lists of values by name that go together, all of one length"},
		},
		Example: `[file(name = m.host + "." + m.env, content = m.addr) for m in matrix(product = {"env": ["test", "prod"]}, zip = {"host": ["a", "b"], "addr": ["::1", "::2"]})]`,
		Value:   matrixValue,
	}
}

// axis is the values that one name of a matrix takes.
type axis struct {
	name   string
	values []starlark.Value
}

func matrixValue(c *lang.Call) (starlark.Value, error) {
	product, zip := readAxes(c, "product"), readAxes(c, "zip")
	if len(product)+len(zip) == 0 && !c.Failed() {
		c.Errorf("give product, zip or both")
	}
	for _, z := range zip {
		for _, p := range product {
			if p.name == z.name {
				c.Errorf("%q is in product and in zip", z.name)
			}
		}
	}
	checkLengths(c, zip)
	rows := 1
	if len(zip) > 0 {
		rows = len(zip[0].values)
	}
	total := rows
	for _, a := range product {
		if total *= len(a.values); total > maxMatrix {
			return nil, fmt.Errorf("there are more than %d combinations", maxMatrix)
		}
	}
	if c.Failed() {
		return starlark.None, nil
	}
	return combinations(product, zip, rows, total), nil
}

// readAxes reads a dict of lists.
func readAxes(c *lang.Call, param string) []axis {
	var all []axis
	for _, e := range c.Entries(param) {
		if !template.IsName(e.Key) {
			c.Errorf("%s: bad name %q: it becomes a field, so use letters, digits and _, and begin with no digit", param, e.Key)
		}
		list, ok := e.Value.(starlark.Sequence)
		if _, dict := e.Value.(*starlark.Dict); dict || !ok {
			c.Errorf("%s: %s: want a list of values, got %s", param, e.Key, e.Value.Type())
			continue
		}
		if list.Len() > maxMatrix {
			c.Errorf("%s: %s: more than %d values", param, e.Key, maxMatrix)
			continue
		}
		a := axis{name: e.Key}
		for v := range starlark.Elements(list) {
			a.values = append(a.values, v)
		}
		all = append(all, a)
	}
	return all
}

// checkLengths holds the lists of zip to one length.
func checkLengths(c *lang.Call, zip []axis) {
	var lengths []string
	equal := true
	for _, a := range zip {
		lengths = append(lengths, fmt.Sprintf("%s has %d", a.name, len(a.values)))
		equal = equal && len(a.values) == len(zip[0].values)
	}
	if !equal {
		c.Errorf("zip: the lists are not equally long: %s", strings.Join(lengths, ", "))
	}
}

func combinations(product, zip []axis, rows, total int) *starlark.List {
	all := make([]starlark.Value, total)
	for i := range all {
		fields := make(starlark.StringDict, len(product)+len(zip))
		rest := i
		for _, z := range zip {
			fields[z.name] = z.values[rest%rows]
		}
		rest /= rows
		for j := len(product) - 1; j >= 0; j-- {
			values := product[j].values
			fields[product[j].name] = values[rest%len(values)]
			rest /= len(values)
		}
		all[i] = starlarkstruct.FromStringDict(starlarkstruct.Default, fields)
	}
	return starlark.NewList(all)
}
