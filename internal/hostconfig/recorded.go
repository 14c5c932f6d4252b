package hostconfig

import (
	"strconv"

	"go.yaml.in/yaml/v4"
)

// modernize gives what older releases of upstream Trident recorded its present
// shape. A key whose successor is there too is left alone, and then unknown.
func modernize(root *yaml.Node) {
	if indexKey(root, "image") < 0 {
		modernizeImage(lookup(root, "osImage"))
		rename(root, "osImage", "image")
	}
	rename(lookup(root, "os"), "network", "netplan")
	rename(lookup(root, "managementOs"), "network", "netplan")
	remove(lookup(root, "trident"), "selfUpgrade")
	remove(lookup(root, "trident"), "enableGrpc")
	if mode := lookup(lookup(root, "os"), "uefiFallback"); mode != nil {
		if now, old := map[string]UEFIFallback{"rollback": FallbackConservative, "rollforward": FallbackOptimistic, "none": FallbackDisabled}[mode.Value]; old {
			mode.Value = string(now)
		}
	}
	storage := lookup(root, "storage")
	for _, item := range items(lookup(storage, "filesystems")) {
		modernizeFilesystem(item)
	}
	if list := lookup(storage, "verityFilesystems"); list != nil && lookup(storage, "verity") == nil {
		rename(storage, "verityFilesystems", "verity")
		for i, item := range items(list) {
			modernizeVerity(storage, item, "verity"+strconv.Itoa(i))
		}
	}
}

// modernizeImage takes its hash away from an osImage: what was hashed then is not
// what sha384 of image is about.
func modernizeImage(image *yaml.Node) {
	if image == nil || image.Kind != yaml.MappingNode {
		return
	}
	for _, key := range []string{"type", "sha256", "sha384"} {
		remove(image, key)
	}
	image.Content = append(image.Content, textNode("sha384"), textNode(string(HashIgnored)))
}

// modernizeFilesystem makes a word of a source that is a mapping, which said from
// which file the content came. The type of what comes from an image is not
// recorded any more: the image says it.
func modernizeFilesystem(fs *yaml.Node) {
	source := lookup(fs, "source")
	if source != nil && source.Kind == yaml.MappingNode {
		word := FromImage
		if kind := lookup(source, "type"); kind != nil {
			switch kind.Value {
			case "create", string(FromNew):
				word = FromNew
			case string(FromAdopted):
				word = FromAdopted
			}
		}
		*source = *textNode(string(word))
	}
	if source == nil || isNull(source) || source.Value == string(FromImage) {
		remove(fs, "type")
	}
}

// modernizeVerity splits one of verityFilesystems, which was a verity device with
// its images and the file system on it in one, in two. It had no id, and its
// name may be the id of what it is made of.
func modernizeVerity(storage, item *yaml.Node, id string) {
	if lookup(item, "name") == nil || lookup(item, "id") != nil {
		return
	}
	mount := lookup(item, "mountPoint")
	for _, key := range []string{"mountPoint", "type", "fsType", "dataImage", "hashImage"} {
		remove(item, key)
	}
	item.Content = append(item.Content, textNode("id"), textNode(id))
	if mount == nil {
		return
	}
	list := lookup(storage, "filesystems")
	if list == nil {
		list = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		storage.Content = append(storage.Content, textNode("filesystems"), list)
	}
	if list.Kind != yaml.SequenceNode {
		return
	}
	list.Content = append(list.Content, &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
		textNode("deviceId"), textNode(id), textNode("mountPoint"), mount,
	}})
}

// items are those of the list n; none when it is no list.
func items(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
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
