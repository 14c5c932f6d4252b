package hostconfig

import "go.yaml.in/yaml/v4"

// modernise gives what older releases of upstream Trident recorded its present
// shape. A key whose successor is there too is left alone, and then unknown.
func modernise(root *yaml.Node) {
	rename(root, "osImage", "image")
	rename(lookup(root, "os"), "network", "netplan")
	rename(lookup(root, "managementOs"), "network", "netplan")
	remove(lookup(root, "trident"), "selfUpgrade")
	storage := lookup(root, "storage")
	if list := lookup(storage, "verityFilesystems"); list != nil && lookup(storage, "verity") == nil {
		rename(storage, "verityFilesystems", "verity")
		for _, item := range list.Content {
			modernVerity(storage, item)
		}
	}
}

// modernVerity splits one of verityFilesystems, which was a verity device and
// the file system on it in one, in two. It had no id: the name becomes it.
func modernVerity(storage, item *yaml.Node) {
	name := lookup(item, "name")
	if name == nil || lookup(item, "id") != nil {
		return
	}
	item.Content = append(item.Content, textNode("id"), textNode(name.Value))
	mount := lookup(item, "mountPoint")
	if mount == nil {
		return
	}
	remove(item, "mountPoint")
	remove(item, "fsType")
	list := lookup(storage, "filesystems")
	if list == nil {
		list = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		storage.Content = append(storage.Content, textNode("filesystems"), list)
	}
	if list.Kind != yaml.SequenceNode {
		return
	}
	list.Content = append(list.Content, &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
		textNode("deviceId"), textNode(name.Value), textNode("mountPoint"), mount,
	}})
}

func textNode(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

// lookup is the value of key in n, or nil.
func lookup(n *yaml.Node, key string) *yaml.Node {
	if i := indexKey(n, key); i >= 0 {
		return n.Content[i+1]
	}
	return nil
}

func rename(n *yaml.Node, old, now string) {
	if i := indexKey(n, old); i >= 0 && indexKey(n, now) < 0 {
		n.Content[i].Value = now
	}
}

func remove(n *yaml.Node, key string) {
	if i := indexKey(n, key); i >= 0 {
		n.Content = append(n.Content[:i:i], n.Content[i+2:]...)
	}
}

func indexKey(n *yaml.Node, key string) int {
	if n == nil || n.Kind != yaml.MappingNode {
		return -1
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Kind == yaml.ScalarNode && n.Content[i].Value == key {
			return i
		}
	}
	return -1
}
