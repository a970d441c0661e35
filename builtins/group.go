package builtins

import "b9.build/b9/builtins/lang"

func groupOperation() lang.Operation {
	return lang.Operation{
		Name: "group",
		Doc: "one name for several targets\n\nBuilding the group builds all of them. It has no result of its own, " +
			"so it cannot be the input of a step.",
		Positional: 2,
		Params: []lang.Param{
			lang.NameParam(),
			{Name: "targets", Type: lang.ListOf(lang.File | lang.Tree | lang.Group), Required: true, Doc: "handles and labels; a step with several outputs stands for all of them"},
		},
		Example: `group("web", targets = [root, ":seed"], doc = "everything for the web server")`,
		Make: func(c *lang.Call) (lang.Step, error) {
			if !c.Given("name") {
				c.Errorf("a group needs a name")
			}
			targets := c.Inputs("targets")
			if len(targets) == 0 {
				c.Errorf("targets is empty")
			}
			return lang.Step{Group: targets}, nil
		},
	}
}
