package cloudinit

func bootcmd() rules {
	return rules{
		"bootcmd": tList(tOne(tList(tText()), tText())).min(1),
	}
}

func runcmd() rules {
	return rules{
		"runcmd": tList(tOne(tList(tText()), tText(), tNull())).min(1),
	}
}

func scriptsVendor() rules {
	return rules{
		"vendor_data": tMap(rules{
			"enabled": tOne(tBool(), tText().old()),
			"prefix":  tKind(isList | isText).each(tKind(isText | isInt)),
		}),
	}
}

func writeFiles() rules {
	return rules{
		"write_files": tList(tMap(rules{
			"path":        tText(),
			"content":     tText(),
			"source":      tMap(rules{"uri": tText(), "headers": tOpenMap(nil).others(tText())}).needs("uri"),
			"owner":       tText(),
			"permissions": tText().check(checkPermissions),
			"encoding":    tEnum("gz", "gzip", "gz+base64", "gzip+base64", "gz+b64", "gzip+b64", "b64", "base64", "text/plain"),
			"append":      tBool(),
			"defer":       tBool(),
		}).needs("path")).min(1),
	}
}
