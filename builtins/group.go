package builtins

func groupOperation() Operation {
	return Operation{
		Name: "group",
		Doc: "one name for several targets\n\nBuilding the group builds all of them. It has no result of its own, " +
			"so it cannot be the input of a step.",
		Positional: 2,
		Params: []Param{
			nameParam,
			{Name: "targets", Type: listOf(aFile | aTree | aGroup), Required: true, Doc: "handles and labels; a step with several outputs stands for all of them"},
		},
		Example: `group("web", targets = [root, ":seed"], doc = "everything for the web server")`,
		make: func(c *Call) (Step, error) {
			if !c.Given("name") {
				c.Errorf("a group needs a name")
			}
			targets := c.Inputs("targets")
			if len(targets) == 0 {
				c.Errorf("targets is empty")
			}
			return Step{Group: targets}, nil
		},
	}
}
