//! `images`.
//!
//! An image is looked for in every `containers` and `initContainers` list, however deep, and at the configured places;
//! CustomResourceDefinitions are left alone. Its name is a regular expression, as in kustomize (`internal/image`).

use super::of_object;
use crate::fieldspec::{self, FieldSpec, Make};
use crate::id::text_at;
use crate::kustomization::Image;
use crate::resource::Resource;
use crate::select::Pattern;
use crate::yaml::{Node, Scalar};

/// Renames the image wherever it is used.
pub(super) fn apply(resources: &mut [Resource], image: &Image, specs: &[FieldSpec]) -> Result<(), String> {
    let tag = "[a-zA-Z0-9_.{}-]*";
    let pattern = Pattern::anywhere(&format!("^{}(:{tag})?(@sha256:{tag})?$", image.name))?;
    let change = Change { image, pattern };
    for resource in resources {
        if text_at(&resource.node, "kind") == "CustomResourceDefinition" {
            continue;
        }
        change.containers(&mut resource.node).map_err(|cause| of_object(resource, &cause))?;
        for spec in specs {
            fieldspec::apply(&mut resource.node, spec, Make::Nothing, &mut |node| change.node(node))
                .map_err(|cause| of_object(resource, &cause))?;
        }
    }
    Ok(())
}

struct Change<'i> {
    image: &'i Image,
    pattern: Pattern,
}

impl Change<'_> {
    fn containers(&self, node: &mut Node) -> Result<(), String> {
        match node {
            Node::Scalar(_) => Ok(()),
            Node::Seq(items) => items.iter_mut().try_for_each(|item| self.containers(item)),
            Node::Map(map) => {
                for (key, value) in map.iter_mut() {
                    self.containers(value)?;
                    if matches!(key, "containers" | "initContainers")
                        && let Node::Seq(items) = value
                    {
                        items.iter_mut().try_for_each(|item| self.container(item))?;
                    }
                }
                Ok(())
            }
        }
    }

    fn container(&self, container: &mut Node) -> Result<(), String> {
        match container {
            Node::Map(map) => map.get_mut("image").map_or(Ok(()), |image| self.node(image)),
            other if other.is_null() => Ok(()),
            other => Err(format!("a container should be a mapping, it is {}", other.kind_word())),
        }
    }

    fn node(&self, node: &mut Node) -> Result<(), String> {
        match node {
            Node::Scalar(scalar) => {
                self.scalar(scalar);
                Ok(())
            }
            other => Err(format!("an image should be text, it is {}", other.kind_word())),
        }
    }

    fn scalar(&self, scalar: &mut Scalar) {
        if !self.pattern.matches(&scalar.text) {
            return;
        }
        let (name, mut tag, mut digest) = split(&scalar.text);
        let image = self.image;
        match (image.new_tag.as_str(), image.digest.as_str(), image.tag_suffix.as_str()) {
            ("", "", "") => {}
            ("", "", suffix) => (tag, digest) = (format!("{tag}{suffix}"), String::new()),
            (new_tag, new_digest, _) => (tag, digest) = (new_tag.to_owned(), new_digest.to_owned()),
        }
        let mut text = if image.new_name.is_empty() { name } else { image.new_name.clone() };
        if !tag.is_empty() {
            text.push(':');
            text.push_str(&tag);
        }
        if !digest.is_empty() {
            text.push('@');
            text.push_str(&digest);
        }
        scalar.retext(&text);
    }
}

/// Name, tag and digest; a colon before the first slash belongs to a port.
fn split(image: &str) -> (String, String, String) {
    let start = image.find('/').unwrap_or(0);
    let colon = image[start..].find(':').map(|at| start + at);
    let at_sign = image[start..].find('@').map(|at| start + at);
    let own = |text: &str| text.to_owned();
    match (colon, at_sign) {
        (None, None) => (own(image), String::new(), String::new()),
        (Some(colon), Some(digest)) if colon < digest => {
            (own(&image[..colon]), own(&image[colon + 1..digest]), own(&image[digest + 1..]))
        }
        (_, Some(digest)) => (own(&image[..digest]), String::new(), own(&image[digest + 1..])),
        (Some(colon), None) => (own(&image[..colon]), own(&image[colon + 1..]), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn ports_are_no_tags() {
        let parts = |image| {
            let (name, tag, digest) = split(image);
            format!("{name} {tag} {digest}")
        };
        assert_eq!(parts("nginx"), "nginx  ");
        assert_eq!(parts("r.io:5000/a/b:1.2"), "r.io:5000/a/b 1.2 ");
        assert_eq!(parts("r.io:5000/a@sha256:ab"), "r.io:5000/a  sha256:ab");
        assert_eq!(parts("a:1@sha256:ab"), "a 1 sha256:ab");
    }
}
